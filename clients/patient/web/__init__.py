"""The wallet as web pages: the signing keys stay in the browser, which checks by itself whatever it is asked to sign.

Served on the patient's own device or by somebody whom she chose; never by the broker or a hospital, since whoever
serves a page could sign with it (DESIGN section 5). The command line wallet is the way with the highest assurance.
"""
