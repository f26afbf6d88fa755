"""What is done to an account, told by a made-up one; the emulator's is in test_deployment.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from botocore.exceptions import ClientError

from infra import deploy, destroy, node
from infra.account import AwsAccount


@dataclass
class MadeUp:
    """An account that remembers what was done to it."""

    outputs: dict[str, str] | None = None
    ready: bool = True
    kept: bool = False
    refusal: ClientError | None = None
    done: list[tuple[str, str]] = field(default_factory=list)
    id: str = "123456789012"
    region: str = "eu-central-1"
    environment: str = "aws://123456789012/eu-central-1"

    def bootstrapped(self) -> bool:
        return self.ready

    def stack(self, name: str) -> dict[str, str] | None:
        return self.outputs

    def protected(self, name: str) -> bool:
        return self.kept

    def queues(self, stack: str) -> list[str]:
        return ["enrolled"]

    def empty(self, bucket: str) -> None:
        self.done.append(("empty", bucket))

    def delete_stack(self, name: str) -> None:
        if self.refusal:
            raise self.refusal
        self.done.append(("delete stack", name))

    def delete_queue(self, url: str) -> None:
        self.done.append(("delete queue", url))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    made_up = MadeUp(outputs={"BodiesBucket": "bodies"})
    monkeypatch.setattr(AwsAccount, "from_environment", lambda: made_up)
    return made_up


def answering(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr("builtins.input", lambda question: word)


class TestDestroy:
    def test_it_removes_what_the_stack_holds_and_what_enrolments_made(
        self, account: MadeUp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answering(monkeypatch, "inferline")

        assert destroy.main([]) == 0

        assert [
            ("empty", "bodies"),
            ("delete stack", "inferline"),
            ("delete queue", "enrolled"),
        ] == account.done

    def test_it_does_nothing_unless_the_stack_is_named(
        self, account: MadeUp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answering(monkeypatch, "yes")

        assert destroy.main([]) == 1

        assert [] == account.done

    def test_what_is_not_there_is_no_failure(self, account: MadeUp) -> None:
        account.outputs = None

        assert destroy.main(["--yes"]) == 0

        assert [] == account.done

    def test_nothing_is_done_to_one_that_is_protected(self, account: MadeUp) -> None:
        account.kept = True

        assert destroy.main(["--yes"]) == 1

        assert [] == account.done

    def test_a_stack_that_refuses_keeps_its_queues(
        self, account: MadeUp, capsys: pytest.CaptureFixture[str]
    ) -> None:
        error = {"Code": "ValidationError", "Message": "Somebody else deploys it"}
        account.refusal = ClientError({"Error": error}, "DeleteStack")

        assert destroy.main(["--yes"]) == 1

        assert "Somebody else deploys it" in capsys.readouterr().err
        assert ("delete queue", "enrolled") not in account.done


class TestDeploy:
    @pytest.fixture
    def ran(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return what was run, each failing, so that nothing follows it."""
        commands: list[str] = []

        def run(program: str, *words: str) -> int:
            commands.append(f"{program} {words[0]}")
            return 1

        monkeypatch.setattr(node, "run", run)
        return commands

    def test_an_account_is_made_ready_first(self, account: MadeUp, ran: list[str]) -> None:
        account.ready = False

        assert deploy.main([]) == 1

        assert ["cdk bootstrap"] == ran

    def test_one_that_is_ready_is_left_as_it_is(self, account: MadeUp, ran: list[str]) -> None:
        assert deploy.main([]) == 1

        assert ["cdk deploy"] == ran

    def test_a_person_is_asked_whether_that_is_the_account(
        self, account: MadeUp, ran: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        answering(monkeypatch, "n")

        assert deploy.main([]) == 1

        assert [] == ran
