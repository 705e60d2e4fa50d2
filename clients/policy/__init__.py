"""``zhifu policy``: a policy as a tool: checked, explained, compared and tested before it goes live."""
