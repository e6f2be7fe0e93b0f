"""The OpenAPI document: one description of each route, and the page that shows them."""
