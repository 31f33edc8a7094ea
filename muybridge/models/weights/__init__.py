"""Opening, packing and converting weights; LoRAs."""
