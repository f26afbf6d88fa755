"""InferLine on AWS, as one stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import App, CfnOutput, Stack
from constructs import Construct

from infra.access import OutsideRoles
from infra.api import Api
from infra.dashboard import Page
from infra.firewall import Firewall
from infra.functions import Functions
from infra.monitoring import Monitoring
from infra.queues import Queues
from infra.storage import Storage
from infra.switches import Switches


class InferLine(Stack):
    """Clients ask the API, its functions queue tasks, providers pull them and store answers."""

    def __init__(self, scope: Construct, switches: Switches) -> None:
        super().__init__(
            scope,
            switches.stack,
            stack_name=switches.stack,
            description="InferLine: an LLM router that works like a conveyor belt",
            termination_protection=switches.protect,
        )
        storage = Storage(self, "Storage", switches)
        queues = Queues(self, "Queues", switches, storage.key)
        functions = Functions(self, "Functions", switches, storage, queues)
        access = OutsideRoles(self, "Access", storage, queues, lender=functions.lender)
        functions.lend(access.role)
        api = Api(self, "Api", switches, functions, storage)
        if switches.waf:
            Firewall(self, "Firewall", switches, api.rest.deployment_stage)
        if switches.page:
            page = Page(self, "Page", switches, functions, api)
            CfnOutput(self, "PageUrl", value=page.url, description="For browsers")
        Monitoring(self, "Operations", switches, storage, queues, functions, api)

        CfnOutput(self, "BaseUrl", value=api.rest.url.rstrip("/"), description="For clients")
        CfnOutput(self, "ProviderPolicy", value=access.policy.managed_policy_arn)
        CfnOutput(self, "GatewayPolicy", value=access.gateway_policy.managed_policy_arn)
        CfnOutput(self, "BodiesBucket", value=storage.bodies.bucket_name)


def app(context: Mapping[str, Any] | None = None) -> App:
    """The app with its one stack. Raises SwitchError; ``context`` is for tests."""
    made = App(context=dict(context) if context else None, analytics_reporting=False)
    InferLine(made, Switches.from_context(made.node.get_all_context({})))
    return made
