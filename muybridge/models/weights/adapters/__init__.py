"""LoRAs and their kin (LoCon, LoHa, LoKr, DoRA, full differences): their names, their files, their formulas, where
their layers belong, and merging them."""
