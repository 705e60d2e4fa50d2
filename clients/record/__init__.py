"""``zhifu record``: records as files, so that formats and policies can be tried without servers."""
