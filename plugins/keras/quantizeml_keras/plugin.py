"""The door of quantizeml-keras. It implements no hook: a frontend is registered when it works, until then
`quantizeml` says what is missing.
"""
