"""What `npipe top` is made of: whom it asks, what it makes of the answers, and how it shows that."""
