"""HTTP itself: bodies, replies, problems, who may ask, filters, static files. It knows no page and no resource."""
