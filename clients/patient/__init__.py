"""The patient's wallet: her keys, her consents, her statements. It runs on her own device and trusts nobody else's."""
