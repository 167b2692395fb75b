"""Accounts: people, their sessions and tokens, runs' tokens, what each may do, and the audit trail.

``web.guard`` decides by these which request may pass.
"""
