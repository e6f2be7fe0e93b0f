"""The HTTP gateway: routes by resource over the actors of the backend."""
