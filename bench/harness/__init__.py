"""The processes under measurement and the load on them."""
