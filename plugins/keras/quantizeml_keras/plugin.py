"""The door of quantizeml-keras. It implements no hook: a frontend is registered when it works, and `quantizeml` says what is missing until then."""
