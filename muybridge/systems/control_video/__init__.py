"""ControlVideo (2305.13077): nothing of it trains; an image model and ControlNets sample."""
