"""The pages of the Run Manager, inside the admin.

Every page works without JavaScript. Where htmx asks for a page, the view renders only the part
that changes, from the template that the whole page includes.
"""
