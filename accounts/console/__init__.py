"""The console: the pages in which the people of an account help themselves.

Views change nothing themselves; they call `accounts.services`. Only the project's URLs and settings may import these
modules, and the admin, which shows operators the same usage.
"""
