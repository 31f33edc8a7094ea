"""The wrong formulas of Make-A-Video and Lumiere, as in `table`."""

LAYERS_OF_MAV, MAV, MAV_COMMANDS = "test_make_a_video_layers", "test_make_a_video", "test_make_a_video_commands"
LAYERS_OF_LUMIERE, LUMIERE, LUMIERE_COMMANDS = "test_lumiere_layers", "test_lumiere", "test_lumiere_commands"
SHARED = f"{LAYERS_OF_MAV} {LAYERS_OF_LUMIERE}"

SPACE_TIME = [
    ("Make-A-Video: the rate counts at the start", "zero_init(self.rate.add_embedding.linear_2)", "pass", LAYERS_OF_MAV),
    ("Make-A-Video: hidden frames are seen", "torch.where(mask > 0, known.to(z), 0.0) * mask", "known.to(z)", SHARED),
    ("Make-A-Video: rates from low to high", "self.start + (self.end - self.start) * min(", "self.end + (self.start - self.end) * min(", f"{MAV}::test_rates_go_from_high_to_low_and_strides_follow"),
    ("Make-A-Video: told the file's rate", "told.append(own / stride)", "told.append(own)", f"{MAV}::test_what_is_told_is_the_rate_of_what_is_seen"),
    ("Make-A-Video: the decoder is told the result's rate", 'options["fps"] = settings.fps / self._skips_behind(index)', 'options["fps"] = settings.fps', f"{MAV}::test_the_whole_on_the_command_line"),
    ("Make-A-Video: frame interpolation starts from nothing", "made.temporal.load_state_dict(before.temporal.state_dict())", "pass", f"{MAV}::test_7_frame_interpolation_starts_as_the_decoder"),
    ("Make-A-Video: one picture is animated backwards", "bool(end) and not animated", "bool(end)", f"{MAV}::test_6_masks"),
    ("Make-A-Video: the embedding is never dropped", "(draws.shares() >= self.config.drop)", "(draws.shares() >= 0)", f"{MAV_COMMANDS}::test_what_training_tells"),
    ("Make-A-Video: told the first frame's embedding", "row[:, at] for row, at in zip(pixels, frame", "row[:, 0] for row, at in zip(pixels, frame", f"{MAV_COMMANDS}::test_what_training_tells"),
    ("Make-A-Video: what is given is noisy", '{"known": noised.x * mask, "known_mask"', '{"known": noised.z * mask, "known_mask"', f"{MAV_COMMANDS}::test_what_training_tells"),
    ("Make-A-Video: the worse draw of the prior", "return found[(found @ words[0]).argmax()][None]", "return found[(found @ words[0]).argmin()][None]", "test_prior::test_the_draw_nearest_to_the_words_is_taken"),
    ("Make-A-Video: neighbouring seeds share draws", 'seeds = [derive_seed(seed, "prior") for seed in seeds]', "seeds = list(seeds)", f"{MAV_COMMANDS}::test_neighbouring_seeds_do_not_share_the_priors_draws"),
    ("Make-A-Video: SR_h draws every frame's own noise", '"noise_correlation": 0.0 if self.image else 1.0', '"noise_correlation": 0.0', f"{MAV_COMMANDS}::test_frames_share_their_noise_where_a_network_sees_them_alone"),
    ("Make-A-Video: SR_l^t shares its noise", '"noise_correlation": 0.0 if self.image else 1.0', '"noise_correlation": 1.0', f"{MAV_COMMANDS}::test_frames_share_their_noise_where_a_network_sees_them_alone"),
    ("Make-A-Video: the small video's grain is every frame's own", "noise = Noise(seeds, correlation=settings.noise_correlation)\n        grain", "noise = Noise(seeds)\n        grain", f"{MAV_COMMANDS}::test_frames_share_their_noise_where_a_network_sees_them_alone"),
    ("Make-A-Video: a rate that was never trained", "told = run.pipeline.nearest_rate(fps)", "told = fps", f"{MAV_COMMANDS}::test_a_video_of_a_high_rate_is_told_the_nearest_that_was_trained"),
    ("Make-A-Video: the result's rates are a network's own", "[rate * self._skips_behind(index) for rate", "[rate for rate", f"{MAV_COMMANDS}::test_a_whole_model_says_which_rates_its_result_may_have"),
    ("Make-A-Video: a long video in one pass", "size = min(condition.window or settings.num_frames, settings.num_frames)", "size = settings.num_frames", f"{MAV}::test_a_long_video_is_interpolated_in_windows_of_the_trained_length"),
    ("Make-A-Video: a window is told all of the given frames", 'self.tensors[n][:, :, which] for n in ("known", "known_mask")', 'self.tensors[n][:, :, : which.stop - which.start] for n in ("known", "known_mask")', f"{MAV}::test_a_long_video_is_interpolated_in_windows_of_the_trained_length"),
    ("Make-A-Video: what reads the embedding is not kept", "lambda name: reads(name) or name.startswith(told)", "lambda name: name.startswith(told)", f"{MAV}::test_a_decoder_that_was_only_taught_to_read_is_kept_without_the_picture_model"),
    ("Make-A-Video: taught to read, all trains", "self.told.adapted == ALL or reads(n)]", "True]", f"{MAV}::test_a_decoder_that_was_only_taught_to_read_is_kept_without_the_picture_model"),
    ("Lumiere: frames doubled as a whole", ".repeat_interleave(2, 1).flatten(0, 1)", ".repeat(1, 2, 1, 1, 1).flatten(0, 1)", LAYERS_OF_LUMIERE),
    ("Lumiere: time halved at the shallowest levels", '(site.kind == "upsampler") >= depth - 1 - levels', '(site.kind == "upsampler") < levels', LAYERS_OF_LUMIERE),
    ("Lumiere: a style drawn the other way", "target.lerp_(value, weight)", "target.lerp_(value, 1 - weight)", f"{LUMIERE}::test_9_styles_move_the_spatial_weights_alone_and_linearly"),
    ("Lumiere: a latent half hidden is given", "hidden = max_pool2d((1 - mask)", "hidden = 1 - max_pool2d((mask)", f"{LUMIERE}::test_masks"),
    ("Lumiere: latents know of hidden pixels", "space.encode(torch.where(mask > 0, video, 0.0))", "space.encode(video)", f"{LUMIERE}::test_11_and_what_is_given_comes_back"),
    ("Lumiere: the tail has no window", "*range(0, frames - size, size - overlap), frames - size]", "*range(0, frames - size + 1, size - overlap)]", f"{LUMIERE}::test_7_windows_are_averaged_by_least_squares"),
    ("Lumiere: boxes in the model's pixels", "left, top, right, bottom = box.within(*read)", "left, top, right, bottom = box.within(height, width)", f"{LUMIERE_COMMANDS}::test_a_box_is_in_the_pixels_of_the_users_video"),
    ("Lumiere: a region's first frame holds", "mask = (~region).float()[None]", "mask = (~region[:1]).float().expand_as(region).clone()[None]", f"{LUMIERE_COMMANDS}::test_a_region_may_move"),
    ("Lumiere: super-resolution moves all of a cinemagraph", "frames = np.where(region.repeat", "_ = np.where(region.repeat", f"{LUMIERE_COMMANDS}::test_a_cinemagraph_of_a_whole_model_stands_still_outside_its_region"),
    ("Lumiere: lengths that time cannot halve", 'frames + -frames % int(getattr(getattr(self.network, "temporal"', 'frames + 0 % int(getattr(getattr(self.network, "temporal"', f"{LUMIERE_COMMANDS}::test_videos_of_any_length"),
    ("Lumiere: the first frame again, not the last", "last = video[:, :, -1:].expand", "last = video[:, :, :1].expand", f"{LUMIERE_COMMANDS}::test_super_resolution_sees_the_last_frame_again"),
    ("Lumiere: any window", "if self.config.window % multiple:", "if False:", f"{LUMIERE_COMMANDS}::test_a_window_that_time_cannot_halve_is_refused_before_training"),
    ("Lumiere: a picture by guidance", "if run.pipeline.fills_regions and self.method in (AUTO, TRAINED):", "if False:", f"{LUMIERE_COMMANDS}::test_a_picture_is_brought_to_life_by_a_model_that_is_told_it"),
    ("Lumiere: cinemagraphs are trained as inpainting", '"cinemagraph": cinemagraph_mask(', '"cinemagraph": 1 - (', f"{LUMIERE_COMMANDS}::test_cinemagraphs_are_trained"),
]  # fmt: skip
