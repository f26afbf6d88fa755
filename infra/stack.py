"""InferLine on AWS, as one stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Annotations, App, CfnOutput, Stack
from constructs import Construct

from inferline.options import renamed
from infra.access import OutsideRoles
from infra.api import Api
from infra.dashboard import Page
from infra.firewall import Firewall
from infra.functions import Functions
from infra.monitoring import Monitoring
from infra.options import Options
from infra.queues import Queues
from infra.storage import Storage


class InferLine(Stack):
    """Clients ask the API, its functions queue tasks, providers pull them and store answers."""

    def __init__(self, scope: Construct, options: Options) -> None:
        super().__init__(
            scope,
            options.stack,
            stack_name=options.stack,
            description="InferLine: an LLM router that works like a conveyor belt",
            termination_protection=options.protect,
        )
        storage = Storage(self, "Storage", options)
        queues = Queues(self, "Queues", options, storage.key)
        functions = Functions(self, "Functions", options, storage, queues)
        access = OutsideRoles(self, "Access", storage, queues, lender=functions.lender)
        functions.lend(access.role)
        api = Api(self, "Api", options, functions, storage)
        if options.waf:
            Firewall(self, "Firewall", options, api.rest.deployment_stage)
        if options.page:
            page = Page(self, "Page", options, functions, api)
            CfnOutput(self, "PageUrl", value=page.url, description="For browsers")
        Monitoring(self, "Operations", options, storage, queues, functions, api)

        CfnOutput(self, "BaseUrl", value=api.rest.url.rstrip("/"), description="For clients")
        CfnOutput(self, "ProviderPolicy", value=access.policy.managed_policy_arn)
        CfnOutput(self, "GatewayPolicy", value=access.gateway_policy.managed_policy_arn)
        CfnOutput(self, "BodiesBucket", value=storage.bodies.bucket_name)
        CfnOutput(self, "FilesBucket", value=storage.files.bucket_name)


def app(context: Mapping[str, Any] | None = None) -> App:
    """Return the app with its one stack. Raises SettingsError; ``context`` is for tests."""
    made = App(context=dict(context) if context else None, analytics_reporting=False)
    given = made.node.get_all_context({})
    InferLine(made, Options.from_context(given))
    for warning in renamed(Options, given):
        Annotations.of(made).add_warning(warning)
    return made
