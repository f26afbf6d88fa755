"""
A firewall before the API, for who wants one: a limit on each address, and known bad addresses out.

It does not look into bodies: prompts hold code, SQL and HTML, which such rules take for attacks.
"""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.options import Options


class Firewall(Construct):
    """The rules, and the API's stage behind them."""

    def __init__(
        self, scope: Construct, name: str, options: Options, stage: apigateway.Stage
    ) -> None:
        super().__init__(scope, name)
        acl = wafv2.CfnWebACL(
            self,
            "Rules",
            name=options.stack,
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_visible(options.stack),
            rules=[_reputation(), _rate(options.waf_requests)],
        )
        wafv2.CfnWebACLAssociation(
            self, "Before", resource_arn=stage.stage_arn, web_acl_arn=acl.attr_arn
        )


def _reputation() -> wafv2.CfnWebACL.RuleProperty:
    """Return the addresses that AWS knows for attacks."""
    name = "AWSManagedRulesAmazonIpReputationList"
    group = wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(vendor_name="AWS", name=name)
    return wafv2.CfnWebACL.RuleProperty(
        name="reputation",
        priority=0,
        statement=wafv2.CfnWebACL.StatementProperty(managed_rule_group_statement=group),
        override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
        visibility_config=_visible("reputation"),
    )


def _rate(requests: int) -> wafv2.CfnWebACL.RuleProperty:
    """Return the addresses that ask too often."""
    limit = wafv2.CfnWebACL.RateBasedStatementProperty(limit=requests, aggregate_key_type="IP")
    return wafv2.CfnWebACL.RuleProperty(
        name="rate",
        priority=1,
        statement=wafv2.CfnWebACL.StatementProperty(rate_based_statement=limit),
        action=wafv2.CfnWebACL.RuleActionProperty(block={}),
        visibility_config=_visible("rate"),
    )


def _visible(name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    """Return the metrics. settings; no samples, since a sample shows headers."""
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
    )
