"""The auditor's console: pages over `clients.auditor.remote`. It belongs to the auditor and believes proofs alone."""
