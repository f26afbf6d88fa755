"""What an operator sees, and what wakes one: a dashboard and alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.api import STAGE, Api
from infra.functions import NAMESPACE, Functions
from infra.options import Options
from infra.queues import Queues
from infra.storage import Storage

#: A task that waits for so long is one that nobody takes, seconds.
OLD_SECONDS: Final = 300
#: Answers with a status above 499 within five minutes.
FAILURES_MAX: Final = 5
_MINUTE: Final = Duration.minutes(1)
_FIVE_MINUTES: Final = Duration.minutes(5)


class Monitoring(Construct):
    """The dashboard, the alarms and whom they tell."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        options: Options,
        storage: Storage,
        queues: Queues,
        functions: Functions,
        api: Api,
    ) -> None:
        super().__init__(scope, name)
        self._options = options
        self._storage = storage
        self._queues = queues
        self._functions = functions
        self._api = api
        self._topic = self._told() if options.alarm_email else None
        self.alarms = self._alarms()
        self._dashboard()

    def _told(self) -> sns.Topic:
        topic = sns.Topic(
            self,
            "Alarms",
            topic_name=f"{self._options.stack}-alarms",
            master_key=self._storage.key,
            enforce_ssl=True,
        )
        self._let_alarms_tell(topic)
        topic.add_subscription(subscriptions.EmailSubscription(self._options.alarm_email))
        return topic

    def _let_alarms_tell(self, topic: sns.Topic) -> None:
        cloudwatch_itself = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        here = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Alarms",
                principals=[cloudwatch_itself],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions=here,
            )
        )
        self._storage.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Alarms",
                principals=[cloudwatch_itself],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=["*"],  # In a key's own policy: this key.
                conditions=here,
            )
        )

    def _alarms(self) -> list[cloudwatch.Alarm]:
        return [
            self._alarm(
                "dead-letters",
                "Messages that nobody could handle; their tasks have failed",
                self._dead_letters(),
                1,
            ),
            self._alarm(
                "old-task",
                f"A task waits for more than {OLD_SECONDS} s",
                _ours("OldestTaskSeconds", "Maximum", _MINUTE),
                OLD_SECONDS,
                of=3,
            ),
            self._alarm(
                "no-provider",
                "Tasks wait for a model that no provider serves",
                _ours("ModelsWithoutProvider", "Maximum", _MINUTE),
                1,
                of=3,
            ),
            self._alarm(
                "failures",
                "Requests are answered with 500 and above",
                self._of_api("5XXError", "Sum", _FIVE_MINUTES),
                FAILURES_MAX,
            ),
            self._alarm(
                "authorizer",
                "Keys can't be checked, so nobody is let in",
                # Not the function's errors: a wrong key counts as one.
                _ours("AuthorizerFailures", "Sum", _FIVE_MINUTES),
                1,
            ),
        ]

    def _alarm(
        self, name: str, says: str, metric: cloudwatch.IMetric, at: float, *, of: int = 1
    ) -> cloudwatch.Alarm:
        """Return the alarm's settings. Missing data is fine: an idle stack sends no metrics."""
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._options.stack}-{name}",
            alarm_description=says,
            metric=metric,
            threshold=at,
            comparison_operator=(cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD),
            evaluation_periods=of,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._topic:
            alarm.add_alarm_action(actions.SnsAction(self._topic))
            alarm.add_ok_action(actions.SnsAction(self._topic))
        return alarm

    def _dead_letters(self) -> cloudwatch.IMetric:
        """
        Return those handed out: they are handled within seconds, so that their depth is never seen.
        """
        return self._queues.dead_letters.metric_number_of_messages_received(
            statistic="Sum", period=_FIVE_MINUTES
        )

    def _of_api(self, name: str, statistic: str, period: Duration) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiName": self._options.stack, "Stage": STAGE},
            statistic=statistic,
            period=period,
        )

    def _dashboard(self) -> None:
        dashboard = cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=self._options.stack,
            default_interval=Duration.hours(3),
        )
        dashboard.add_widgets(cloudwatch.AlarmStatusWidget(alarms=self.alarms, width=24, height=2))
        for row in (self._belt(), self._answers(), self._costs()):
            dashboard.add_widgets(*row)

    def _belt(self) -> Sequence[cloudwatch.IWidget]:
        """Return what waits, and who works."""
        return [
            _graph("Waiting, by model and tier", [self._queues_by("NumberOfMessagesVisible")]),
            # Those of batches wait for idle slots, for days if need be.
            _graph("Oldest message, s", [self._queues_by("AgeOfOldestMessage", but="batch")]),
            _graph(
                "Slots and tasks",
                [_ours(name, "Maximum") for name in ("Slots", "Running", "Waiting", "Providers")],
            ),
        ]

    def _answers(self) -> Sequence[cloudwatch.IWidget]:
        """Return how fast, and how often not at all."""
        return [
            _graph("First token, ms", _percentiles("FirstTokenMilliseconds")),
            _graph("Whole answer, ms", _percentiles("TotalMilliseconds")),
            _graph("Errors, by code", [_each("Errors", "Code", "Sum")]),
            _graph(
                "Tokens, by model",
                [_each(name, "Model", "Sum") for name in ("InputTokens", "OutputTokens")],
            ),
        ]

    def _costs(self) -> Sequence[cloudwatch.IWidget]:
        """Return what the bill is made of: waiting functions first, then writes of chunks."""
        functions, storage = self._functions, self._storage
        running = [
            function.metric("ConcurrentExecutions", statistic="Maximum", label=label)
            for label, function in (
                ("inference", functions.inference),
                ("control", functions.control),
            )
        ]
        units = [
            metric(statistic="Sum", period=_FIVE_MINUTES)
            for metric in (
                storage.tasks.metric_consumed_write_capacity_units,
                storage.tasks.metric_consumed_read_capacity_units,
                storage.registry.metric_consumed_read_capacity_units,
            )
        ]
        return [
            _graph("Functions at once", running),
            _graph("Requests", [self._of_api("Count", "Sum", _FIVE_MINUTES)]),
            _graph("Units of the tables", units),
        ]

    def _queues_by(self, name: str, *, but: str = "") -> cloudwatch.IMetric:
        """
        Return a line for each queue of the moment, as providers bring further models.

        Queues whose names have the word ``but`` are left out.
        """
        words = " AND ".join(f"QueueName={word}" for word in self._options.stack.split("-"))
        words += f" AND NOT QueueName={but}" if but else ""
        return cloudwatch.MathExpression(
            expression=(
                f"SEARCH('{{AWS/SQS,QueueName}} MetricName=\"Approximate{name}\" AND {words}', "
                "'Maximum', 60)"
            ),
            label="",
            using_metrics={},
        )


def _ours(name: str, statistic: str, period: Duration = _MINUTE) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE, metric_name=name, statistic=statistic, period=period
    )


def _percentiles(name: str) -> list[cloudwatch.IMetric]:
    return [_each(name, "Model", statistic) for statistic in ("p50", "p95")]


def _each(name: str, dimension: str, statistic: str) -> cloudwatch.IMetric:
    """Return a line for each value of the dimension."""
    return cloudwatch.MathExpression(
        expression=(
            f"SEARCH('{{{NAMESPACE},{dimension}}} MetricName=\"{name}\"', '{statistic}', 300)"
        ),
        label=statistic,
        using_metrics={},
    )


def _graph(title: str, lines: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(lines), width=8, height=6)
