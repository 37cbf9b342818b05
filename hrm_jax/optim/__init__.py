"""How weights move: Adam-atan2, sparse sign-SGD, the learning rate."""
