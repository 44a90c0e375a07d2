"""The Run Manager's pages inside the admin (seed 001). They work without JavaScript; htmx swaps the part that they include."""
