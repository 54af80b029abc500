"""The 37 faults, what is promised under each, and the tests elsewhere that show a part of it."""

FAULTS: dict[int, tuple[str, str]] = {
    1: (
        "SIGKILL at every step of a write, and at random",
        "committed rows intact; at most one shard of work lost; the resumed result identical",
    ),
    2: (
        "ENOSPC, EDQUOT, EFBIG at each write; a disk that is really full",
        "exit 5, a clear message, no scratch file, no crash of the interpreter",
    ),
    3: (
        "EIO from fsync of a file, of a folder",
        "fsync is not retried; a shard whose fsync failed is not committed (where the log's own fsync failed, its line "
        "may stand or not: the shard that it names is whole on disk either way)",
    ),
    4: ("short writes, EINTR", "completes correctly"),
    5: (
        "power loss: writes and renames that were not fsynced are dropped",
        "a beginning of what was acknowledged, never garbage",
    ),
    6: (
        "a torn, duplicate, damaged line in the log",
        "a torn last line is ignored; a duplicate is harmless; a damaged line is an error that names it",
    ),
    7: (
        "every bit of a small shard flipped; bits at random over all files of a cache",
        "detected before use, or harmless",
    ),
    8: ("a file truncated by 1, by 4,096, by half; a zeroed tail; junk appended", "an error that names the file"),
    9: (
        "a shard or listing deleted, renamed, swapped with another",
        "an error; never rows of zeros, never another image's row",
    ),
    10: ("valid HDF5 of a wrong shape, dtype, row count", "refused"),
    11: ("NaN, inf, a float16 overflow out of the trunk", "refused, the image named"),
    12: (
        "external storage, virtual data set, external or soft link, filter",
        "refused; the target is never opened",
    ),
    13: ("a header, or a line of the log, that declares 10^12 rows", "refused; nothing allocated"),
    14: (
        "HDF5 metadata fuzz in a subprocess, the hash check bypassed",
        "nothing silently wrong; a crash or a hang is contained",
    ),
    15: ("paths in the log or a listing: ../, absolute, a symbolic link", "refused"),
    16: ("a head or weights that carry pickle", "refused; the canary is not executed"),
    17: (
        "two extracts at once; the holder of the lock stopped and continued",
        "one waits, or leaves with who holds it; no duplicate rows",
    ),
    18: ("the parent killed while loader workers live", "the workers end; the next run proceeds"),
    19: ("locks unsupported (ENOSYS, ENOLCK), or without effect", "a documented fallback, still correct"),
    20: ("readers while an extract and a gc run", "a committed snapshot at any moment; no SIGBUS"),
    21: (
        "code that writes to the cache beside publish.py, or opens a published shard for writing",
        "fails in CI; shards are 0444",
    ),
    22: (
        "an image edited: same size and mtime; within one clock tick; while it is read",
        "embedded anew, or the run says so",
    ),
    23: ("touch, chmod, hard link, moving the data set", "nothing embedded anew"),
    24: ("each keyed field changed alone; batch size, workers, shard size", "a new store; the same store"),
    25: (
        "truncated, 0-byte, HTML named .jpg, I;16, CMYK, grey, palette, animated, EXIF-rotated",
        "the documented outcome; failures listed; rows stay aligned",
    ),
    26: ("headers of 100 MP, 400 MP, 65,500 x 65,500", "refused under a memory limit"),
    27: ("symbolic link loop, dangling link, FIFO, unreadable folder", "ends; reported"),
    28: (
        "names: not UTF-8, newline, =cmd, <script>, bidi controls, NFC and NFD",
        "lossless on disk; inert in CSV, HTML and on the terminal",
    ),
    29: (
        "a cache of an older, of a newer format",
        "read, or clearly refused; a golden cache of each format stands in tests/golden",
    ),
    30: (
        "h5py against memmap against pread, random index sets with empty, duplicate, negative",
        "bit-equal; a row that is not there is refused",
    ),
    31: ("a store opened before a fork, spawn, threads", "correct"),
    32: ("a read-only cache folder", "reading works; extract fails cleanly"),
    33: (
        "every file of a cache replaced by a pipe, link, device, folder, socket, 1 GB, empty, unreadable",
        "refused or passed over; never a hang",
    ),
    34: (
        "a user's image, table, recipe, weights, video or target is a pipe, device, folder, socket, 1 GB, unreadable",
        "refused, or a row with its reason; never a hang",
    ),
    35: (
        "a document of a cache, under a right checksum, with any value at any place, or brackets without end",
        "an error that names the place, with exit 3; a memory is passed over; never a bug",
    ),
    36: (
        "a fitted model from anybody: archives that unpack without end, arrays that do not fit each other",
        "refused before it answers, in bounded memory; no crash",
    ),
    37: (
        "limits of memory, threads, open files and file sizes under every command",
        "exit 5 with the way out; never a bug, a hang, or an interruption that nobody made",
    ),
}

# Tests of the rooms that show a part of a promise already; `make faults` runs them too. A name that no test has fails.
ELSEWHERE: dict[int, tuple[str, ...]] = {
    1: (
        "tests/end_to_end/test_killed.py::test_kills_change_nothing",
        "tests/store/test_writer.py::test_a_writer_that_was_killed_leaves_its_commits_and_a_free_store",
        "tests/maintenance/test_collection.py::test_a_gc_that_dies_at_any_step_loses_nothing",
    ),
    2: (
        "tests/files/test_publishing.py::test_a_failure_at_any_step_leaves_the_old_file_or_the_new_one",
        "tests/files/test_publishing.py::test_a_really_full_device_is_told",
        "tests/end_to_end/test_commands.py::test_a_full_disk_is_told_and_loses_nothing",
    ),
    3: ("tests/files/test_publishing.py::test_a_failing_fsync_is_not_tried_again",),
    4: ("tests/files/test_publishing.py::test_short_writes_complete",),
    6: (
        "tests/store/test_commits.py::test_a_torn_last_line_is_ignored_and_cut_by_the_next_writer",
        "tests/store/test_commits.py::test_a_damaged_line_is_named",
        "tests/store/test_commits.py::test_any_beginning_of_a_log_is_a_beginning_of_the_store",
    ),
    7: (
        "tests/store/test_shard.py::test_a_flipped_bit_anywhere_is_refused_before_use",
        "tests/test_format.py::test_both_readers_refuse_the_same_bits",
    ),
    8: ("tests/store/test_shard.py::test_a_file_that_is_not_the_committed_one_is_refused",),
    9: ("tests/store/test_store.py::test_two_shards_whose_names_were_swapped_are_refused",),
    10: ("tests/store/test_hdf5.py::test_a_well_formed_file_of_another_make_is_refused",),
    11: (
        "tests/extraction/test_bad_images.py::test_an_embedding_that_is_not_finite_is_refused_with_the_image_named",
        "tests/store/test_writer.py::test_a_row_is_stored_only_where_every_value_is_finite_and_fits",
    ),
    15: ("tests/store/test_listings.py::test_a_name_that_leads_out_of_the_cache_is_refused",),
    16: ("tests/heads/saved/test_linear.py::test_tensors_of_another_make_are_refused_and_nothing_is_executed",),
    17: (
        "tests/files/test_lock.py::test_a_stopped_holder_still_holds",
        "tests/files/test_lock.py::test_a_holder_that_dies_frees_the_lock",
    ),
    18: ("tests/loader/test_reader_processes.py::test_workers_do_not_outlive_a_parent_that_is_killed",),
    20: ("tests/maintenance/test_collection.py::test_readers_see_every_row_at_any_moment_of_a_gc",),
    21: ("tests/files/test_publishing.py::test_a_published_shard_is_read_only_and_a_document_is_not",),
    22: (
        "tests/extraction/test_job.py::test_an_edit_that_keeps_size_and_mtime_is_found",
        "tests/files/test_stat_log.py::test_a_file_that_has_just_been_written_is_not_trusted",
        "tests/loader/test_worker.py::test_a_file_that_keeps_growing_is_given_up",
    ),
    23: (
        "tests/extraction/test_job.py::test_only_what_is_new_is_embedded",
        "tests/extraction/test_data_set_names.py::test_a_moved_folder_is_the_same_data_set",
    ),
    24: (
        "tests/trunks/test_spec.py::test_each_field_alone_changes_the_fingerprint",
        "tests/trunks/test_spec.py::test_each_field_of_the_transform_alone_changes_the_fingerprint",
        "tests/extraction/test_interrupted.py::test_batches_workers_and_shards_do_not_show_in_an_embedding",
    ),
    25: (
        "tests/media/test_images_refused.py::test_a_file_that_is_cut_off_is_refused",
        "tests/media/test_images_refused.py::test_what_is_no_supported_image_is_refused_by_its_content",
        "tests/media/test_images.py::test_of_an_animation_the_first_frame_counts",
        "tests/media/test_images.py::test_an_orientation_tag_is_ignored_or_applied_as_asked",
    ),
    26: (
        "tests/media/test_images_refused.py::test_a_header_of_too_many_pixels_is_refused_in_little_memory",
        "tests/media/test_images_refused.py::test_bombs_are_refused_under_a_memory_limit",
    ),
    27: (
        "tests/listing/test_folder.py::test_a_link_to_a_folder_above_ends_and_is_named",
        "tests/listing/test_folder.py::test_what_cannot_be_read_is_a_row_all_the_same",
        "tests/loader/test_worker.py::test_a_fifo_does_not_block",
    ),
    28: (
        "tests/report/test_tables.py::test_hostile_names_are_inert",
        "tests/text/test_text.py::test_printable_is_inert_and_stays_as_it_is",
        "tests/report/test_terminal.py::test_markup_in_a_name_is_text",
    ),
    29: (
        "tests/heads/saved/test_linear.py::test_a_newer_format_and_an_unknown_setting_are_refused",
        "tests/test_format.py::test_there_is_a_golden_cache_of_this_format",
        "tests/test_format.py::test_featcache_reads_the_golden_caches",
    ),
    30: (
        "tests/store/test_shard.py::test_gather_reads_what_h5py_reads",
        "tests/store/test_shard.py::test_gather_refuses_rows_that_are_not_there",
    ),
    32: ("tests/store/test_store.py::test_a_cache_that_may_not_be_written_to_can_be_read",),
    36: (
        "tests/heads/saved/test_skops.py::test_a_hostile_archive_is_refused_in_bounded_memory",
        "tests/heads/saved/test_skops.py::test_a_support_vector_machine_that_does_not_fit_itself_is_refused",
    ),
}
