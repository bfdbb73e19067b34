"""Plugins for the registry's tests: a stand-in for Tumbler's own, a third party's, and a broken one."""
