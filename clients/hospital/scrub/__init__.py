"""Free text without the people in it: the record's own known values first, then checked patterns (DESIGN 4.7).

`text.scrub` is the way in. Each finder reads a text and yields `found.Finding`; what they find is replaced by typed
tokens, and reported by place and kind, never by value. No finder calls another, and each takes linear time.
"""
