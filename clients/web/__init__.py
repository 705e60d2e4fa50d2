"""What all our pages have in common: one look, two languages, and a guard that lets no foreign code or site in.

Pages are Starlette and Jinja2 with our own CSS and small JavaScript: no CDN, no build step (DESIGN section 9). A role
keeps its templates, static files and words in a package of its own and makes a `clients.web.pages.Pages` of them.
"""
