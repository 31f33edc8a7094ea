"""The one reader of moving and still pictures: frames by their own times, upright, of square pixels, 8-bit BT.709."""
