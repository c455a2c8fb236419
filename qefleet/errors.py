"""Every error that the fleet raises on purpose.

Three families, told apart because they end differently:

```
QeError
├── UsageError            the caller can mend it: refused at once, never retried        (exit code 2)
│   ├── InvalidInput      a field of the input is wrong; `field` names it
│   ├── TargetError       the target can't be read, fetched or built
│   ├── MissingTool       a program that measures isn't installed
│   ├── SandboxUnavailable  no bubblewrap here, and no consent to go without
│   ├── LocalModelUnavailable  no model can run on this machine as it is
│   ├── GraphError        a lionagi graph has something in it that can't be made durable; `node` names where
│   └── SettingsError     an environment variable or option is wrong
├── RunError              this run can't go on as it is                                  (exit code 3)
│   ├── BudgetExceeded    the run, its agent or its project has spent its budget
│   ├── ModelRefused      the provider refuses the call for good (key, model name, content)
│   └── ModelUnusable     the replies still don't parse after being asked again
└── TransientError        somebody else's fault, for now: the workflow engine tries again
    ├── ModelUnavailable  rate limit, overload, time-out, broken connection; `retry_after_s`
    └── StoreUnavailable  Postgres can't be reached
```

Each message says what to do next. Third-party errors are turned into these once, where they enter
(`raise … from`), and into Temporal's `ApplicationError` once, at the activities' edge.
"""

from __future__ import annotations


class QeError(Exception):
    """Base of all errors that the fleet raises on purpose."""


class UsageError(QeError):
    """The caller can mend this; trying again without a change is useless."""


class InvalidInput(UsageError):
    """A field of the input is wrong.

    Args:
        field: Path of the field, such as `agents.0.options.max_rounds`.
        reason: What is wrong with it, without the value: inputs may hold secrets.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class TargetError(UsageError):
    """The target can't be read, fetched or built."""


class MissingTool(UsageError):
    """A program that measures isn't installed; the message says how to install it."""


class SandboxUnavailable(UsageError):
    """Untrusted code can't be confined on this machine, and nobody agreed to run it anyway."""


class LocalModelUnavailable(UsageError):
    """No model can run on this machine as it is: no weights, no server, or no room for them."""


class GraphError(UsageError):
    """A lionagi graph has something in it that has no durable meaning.

    Args:
        node: Name of the node or branch, or `graph`.
        reason: What it is, and what to do in its place.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
        self.node = node
        self.reason = reason


class SettingsError(UsageError):
    """An environment variable or option has an unusable value."""


class RunError(QeError):
    """This run can't go on as it is."""


class BudgetExceeded(RunError):
    """A budget is spent: the run's, its agent's or its project's; what was measured and kept stays."""


class ModelRefused(RunError):
    """The provider refuses the call for good."""


class ModelUnusable(RunError):
    """The model's replies can't be used, even after it was asked again with the reason."""


class TransientError(QeError):
    """Worth another try later.

    Args:
        message: What happened.
        retry_after_s: Seconds that the other side asked us to wait, when it did.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelUnavailable(TransientError):
    """The provider or the gateway can't answer now."""


class StoreUnavailable(TransientError):
    """Postgres can't be reached now."""
