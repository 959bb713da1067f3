"""What does not hold on Windows, or under the Wine that stands in for it, and why: each test is expected to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REQUEST_STAYS: Final = "Windows: a request stays sent, whatever its length (SEMANTICS §8.2)"
_TAKEN_BACK: Final = "Windows: nothing takes back what a client has written"
_SELECT: Final = "Windows: select is for sockets only; npipe.aio is for event loops"
_ORDER: Final = "Windows: all that wait for an instance are woken, and keep no order (SEMANTICS §4)"
_FOLDER: Final = "Windows: pipes are not in a folder"
_GOES_ON: Final = "Windows: a write that is cancelled ends, whatever the peer has read of it (SEMANTICS §10.2)"
_WAITS_WITH_NOTHING: Final = "Windows: recv waits with a read of nothing, which is no room for a write"
_INNER: Final = "Windows: the test looks into the engine, or stands on it in another process"
_WAITED_FOR: Final = "Windows: the test waits for another process that stands on the engine"
_A_TURN_LATER: Final = "Windows: a write that has begun cannot wait for another, so a transport writes in its task"
_FORK: Final = "Windows: there is no fork"
_NEWLINES: Final = "Windows: text ends its lines with two characters"
_PROC: Final = "POSIX: the test sends signals, or looks into /proc"
_POSIX_USERS: Final = "POSIX: users and groups are numbers"
_REDIRECTOR: Final = "Windows: its own redirector looks for the machine"
_LIMIT: Final = "Windows: a handle has no limit for messages, only npipe's own classes have"

_SHARE: Final = (
    "Windows: a pending read takes its share of a write at once, also if it is cancelled then (docs/design.md, limits)"
)
_COPIED: Final = "Windows: the test's own handle copies what it writes"
_OWN_TEXT: Final = "pywin32's modules and errors have their own way there"
_ONE_WAIT: Final = "Windows: one alertable wait runs all routines, and pywin32's waits cannot raise what they raise"
_NO_LINKS: Final = "Wine's symbolic links are none"

_KEPT_ALIVE: Final = "npipe.win32 keeps buffers and OVERLAPPEDs alive, which pywin32 leaves to its caller"
_LATER_WRITE: Final = "Wine lets a pending write succeed as the one before it is broken off"

_DACL: Final = "Wine does not hold a pipe's access rules against anybody"

_NOWAIT_WRITE: Final = "Wine writes what a pending read leaves room for (SEMANTICS §12, 3)"
_FIRST: Final = "Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE (SEMANTICS §12, 4)"
_IDS_AFTER: Final = "Wine tells process ids also after a disconnect (SEMANTICS §12, 2)"
_NO_CLIENT_YET: Final = "Wine tells a process id of no client (SEMANTICS §12, 30)"
_CHECKS: Final = "Wine takes flags, types and limits that Windows refuses, and reports 255 as -1 (SEMANTICS §12, 12)"
_DEFAULT: Final = "Wine takes a default time-out of 0 as it is (SEMANTICS §12, 13)"
_SIZES: Final = "Wine takes all instances' sizes from the first (SEMANTICS §12, 14)"
_BUSY_FIRST: Final = "Wine tells 231 before it looks at the direction (SEMANTICS §12, 15)"
_STATE_RIGHTS: Final = "Wine lets every handle set its state (SEMANTICS §12, 16)"
_LISTENING: Final = "Wine refuses to disconnect a listening instance, and has 50 for a client's (SEMANTICS §12, 17)"
_PENDING_676: Final = "Wine ends a pending connect with 676 (SEMANTICS §12, 18)"
_PENDING_READ: Final = "Wine lets a transaction begin while a read is pending (SEMANTICS §12, 21)"
_TO_NOWAIT: Final = "Wine lets a handle switch to NOWAIT with something pending (SEMANTICS §12, 22)"
_LOST: Final = "Wine loses a pending write with its writer (SEMANTICS §12, 23)"
_TRAILING: Final = "Wine leaves an empty message behind a read of bytes (SEMANTICS §12, 24)"
_FLUSH: Final = "Wine flushes without the right to write, and waits for later writes too (SEMANTICS §12, 25)"
_NOTHING_TO_CANCEL: Final = "Wine cancels nothing with success (SEMANTICS §12, 26)"
_SERIAL: Final = "Wine does not serialise a synchronous handle's calls (SEMANTICS §12, 28)"
_LISTING: Final = r"Wine does not list \\.\pipe\ (SEMANTICS §12, 29)"
_IN_USE: Final = "Windows: a process' current folder cannot be removed"
_NO_ROOM: Final = "Windows: a reservation is a copy, which takes no room and holds nobody back before its end"
_LEFT: Final = "Windows: a message that is looked at has left the buffer, so its writer has room, and its flush ends"
_READERS: Final = "Windows: threads that wait to read one pipe keep no order"
_SLOW: Final = "65,536 writes take minutes there"

LINUX: Final = {
    "c": "the engine in C",
    "integrity": "an oracle of content for the engine",
    "clients": "programs for Windows on npipe.win32, which is pywin32 itself there",
    "examples": "processes that are ended by Ctrl-C, and users as Linux has them",
    "processes/test_inspect.py": "what the engine counts, and tells other processes",
    "faces/test_stats.py": "what the engine counts",
    "protocol": "the memory that two processes share, and who speaks its protocol",
    "cli/test_tools.py": "terminals, POSIX signals, and what the engine counts",
    "cli/test_metrics.py": "what the engine counts",
    "cli/test_top.py": "terminals, POSIX signals, and what the engine counts and records",
    "cli/test_top_web.py": "POSIX signals, /proc, and what the engine counts and records",
    "cli/test_top_pictures.py": "pictures of what the engine counts, at another system's times",
    "processes/test_tracing.py": "a running server is traced through the engine",
    "cli/test_trace.py": "the same, and what the engine records of its own process",
    "processes/test_views.py": "forks, and views in the ring",
    "bench": "the benchmark",
    "faults": "who attacks, kills and races the engine",
    "fuzz": "the engine in C",
    "nogil": "threads that share what the binding of the engine has",
    "model": "a model of the engine's sleeping and waking",
    "conformance": "tests/windows/test_conformance.py replays it on pywin32",
    "aio/test_calls.py": "the binding's awaitables, in whose place are coroutines",
    "aio/test_order.py": "the test uses up the turns of the engine's pipes",
    "aio/test_stopped.py": "processes that are stopped by POSIX signals",
    "cli/test_info.py": "root folders",
    "cli/test_bench.py": "terminals, POSIX signals and Unix sockets; tests/windows/test_command.py is its like",
    "cli/test_demo.py": "POSIX signals and shells; tests/windows/test_command.py is its like",
    "cli/test_doctor.py": "root folders, limits, users and filters; tests/windows/test_command.py is its like",
    "cli/test_ls.py": "terminals, and pipes' owners",
    "relay": "Unix sockets, POSIX signals, and programs of Unix at the ends of relays",
    "cli/test_talk.py": "terminals, and POSIX signals",
    "cli/test_serve.py": "POSIX signals end its servers; tests/windows/test_command.py is its like",
    "connection/test_channel_deaths.py": "fork, signals, and ends that several processes hold",
    "connection/test_closing.py": "fork and POSIX signals; npipe.connection is multiprocessing's own there",
    "connection/test_context.py": "fork and POSIX signals; tests/connection/test_both_systems.py is its like",
    "connection/test_objects.py": "npipe.connection's own pickles, in whose place are multiprocessing's",
    "connection/test_recorded.py": "multiprocessing's own connections, which nobody records",
    "connection/test_rendezvous.py": "fork; tests/connection/test_both_systems.py is its like",
    "connection/test_sharing.py": "fork, and ends that several processes hold",
    "docs": "the documentation, its tools, and transcripts of a POSIX shell",
    "doors": "the doors do nothing there: everything is the system's own",
    "cli/test_samba.py": "Samba is Linux's; Windows lets other machines in itself",
    "export": "Samba is Linux's; Windows lets other machines in itself",
    "samba": "Samba is Linux's; Windows lets other machines in itself",
    "faces/test_discarded_answers.py": "a process that is stopped by a POSIX signal in the midst of its answer",
    "faces/test_error_texts.py": "what the engine knows of errors; tests/test_reasons.py is for what both know",
    "faces/test_timeouts.py": "processes that are stopped by POSIX signals, and limits of theirs",
    "processes/test_death.py": "how the engine sees that a process has died",
    "processes/test_descriptors.py": "the engine's file descriptors",
    "processes/test_fork.py": "fork",
    "processes/test_forks_in_flight.py": "fork",
    "processes/test_idle_memory.py": "the memory of the engine's rings",
    "processes/test_identity.py": "users of POSIX, and threads that act as them",
    "sync/test_interrupts.py": "POSIX signals",
    "semantics/test_model.py": "a model of Windows' pipes, from which Wine's differ (SEMANTICS §12, 17 and others)",
    "bench/test_content.py": "the benchmark, which is for Linux",
    "bench/test_results.py": "the benchmark, which is for Linux",
    "bench/test_runs.py": "the benchmark, which is for Linux",
    "repository/test_check_text.py": "the files of a checkout",
    "repository/test_package.py": "the files of a checkout",
    "repository/test_public_names.py": "the files of a checkout, and modules that pywin32 takes the place of there",
    "repository/test_release.py": "the files of a checkout, and what builds wheels for Linux",
    "repository/test_workflows.py": "the files of a checkout",
    "repository/test_make.py": "make",
    "repository/test_run_parts.py": "make, and POSIX signals",
    "repository/test_set_up.py": "make, which sets up on Linux",
    "repository/test_types.py": "the files of a checkout, and its tools",
    "faces/test_process.py": "descriptors, and the classes of the engine's faces",
    "faces/test_wait_for_server.py": "folders that tell; tests/windows/test_native_pipes.py is its like",
    "aio/test_transports.py": "a table of asyncio's selector transports; its own Proactor's differ from it",
    "aio/test_transport_servers.py": "a table of asyncio's selector transports; its own Proactor's differ from it",
    "processes/test_roots.py": "the engine's folders",
    "cli/test_serve_models.py": "POSIX signals end its servers; tests/windows/test_command.py is its like",
    "servers/test_security.py": "access rules by POSIX's numbers",
    "processes/test_stopped_lock.py": "the locks of the engine's folders",
    "processes/test_versions.py": "the engine's protocol",
    "win32/test_find_files.py": "npipe.win32's own files, in whose place are Windows'",
    "win32/test_inheritance.py": "npipe.win32's own handles that go to other processes, in whose place are Windows'",
    "win32/test_model.py": "npipe.win32's own, against a model; tests/windows/test_conformance.py replays Windows'",
    "win32/test_events.py": _KEPT_ALIVE,
    "win32/test_overlapped.py": _KEPT_ALIVE,
    "win32/test_pipes.py": "turns of synchronous handles, which Wine does not keep (SEMANTICS §12, 28); POSIX's users",
    "win32/test_ports.py": _KEPT_ALIVE,
    "win32/test_bad_input.py": "npipe.win32's own looks at arguments, in whose place are pywin32's",
    "win32/test_access.py": "npipe.win32's own access rules, in whose place are Windows'",
    "win32/test_install.py": "npipe.win32 in pywin32's place",
    "win32/test_names.py": "npipe.win32's own names, in whose place are pywin32's",
    "win32/test_processes.py": "npipe.win32's own processes, in whose place are Windows'",
    "win32/test_security.py": "npipe.win32's own win32security",
    "win32/test_tokens.py": "npipe.win32's own tokens, in whose place are Windows'",
}
"""Files and folders that are about what is not there on Windows, and why."""

DIFFERENCES: Final = {
    "connection/test_both_systems.py": {
        "test_poll_is_true_at_the_end": "Windows: multiprocessing's poll raises BrokenPipeError at the end",
    },
    "faces/test_half_close.py": {
        "test_anyio_streams_send_and_receive_the_end[trio]": "trio is refused on Windows (docs/aio.md)",
        "test_a_write_that_stands_in_the_pipe_succeeds_under_a_close": "a close takes a pending write back there",
    },
    "faces/test_memory.py": {
        "test_a_part_of_what_owners_tell_is_not_taken_for_the_whole[inspect]": _INNER,
        "test_a_part_of_what_owners_tell_is_not_taken_for_the_whole[list]": _INNER,
    },
    "faces/test_server_clients.py": {
        "test_a_handler_with_two_parameters_gets_the_client_s_connection": _POSIX_USERS,
        "test_on_a_loop_a_handler_with_two_parameters_gets_the_client_s_connection": _POSIX_USERS,
    },
    "sync/test_pipe.py": {
        "test_a_transaction_whose_request_was_withdrawn_leaves_nothing_owed": _REQUEST_STAYS,
        "test_abort_of_the_client_discards": _TAKEN_BACK,
        "test_pipes_are_listed_while_they_exist": _LISTING,
    },
    "sync/test_views.py": {
        "test_who_waits_for_its_reservation_is_the_only_one": _NO_ROOM,
        "test_a_reservation_that_could_not_begin_is_tried_again": _NO_ROOM,
        "test_another_thread_writes_behind_it": _NO_ROOM,
        "test_another_threads_write_behind_it_has_its_time_out": _NO_ROOM,
        "test_who_reads_behind_a_view_keeps_its_turn": _READERS,
        "test_flush_waits_for_the_end_of_a_view": _LEFT,
        "test_a_viewed_message_fills_the_buffer": _LEFT,
        "test_a_reservation_waits_for_room": _NO_ROOM,
        "test_a_close_by_another_thread_ends_the_wait_for_room": _NO_ROOM,
        "test_the_peers_close_ends_the_wait_for_room": _NO_ROOM,
    },
    "sync/test_selectors.py": {
        "test_fileno_is_readable_when_a_read_would_not_wait": _SELECT,
        "test_fileno_asked_for_when_data_or_the_end_is_there_already": _SELECT,
        "test_fileno_tells_of_the_end": _SELECT,
        "test_fileno_with_parts_and_large_messages": _SELECT,
        "test_fileno_after_a_read_that_timed_out": _SELECT,
        "test_fileno_after_a_transaction_that_timed_out": _SELECT,
        "test_fileno_with_reads_in_another_thread": _SELECT,
        "test_selector_over_many_pipes": _SELECT,
        "test_asyncio_add_reader": _SELECT,
        "test_no_wake_is_lost_by_a_selector": _SELECT,
    },
    "sync/test_opening.py": {
        "test_root_is_the_folder_that_a_server_makes_its_pipes_in": _FOLDER,
        "test_root_follows_the_environment_in_the_order_that_is_documented": _FOLDER,
    },
    "sync/test_listener.py": {
        "test_longest_waiting_client_comes_first": _ORDER,
        "test_exclusive_name_is_taken_in_this_process_and_in_others": _FIRST,
        "test_exclusive_listen_while_only_connected_instances_are_left": _FIRST,
        "test_name_at_the_limit_never_vanishes": _LISTING,
        "test_client_that_aborted_is_passed_over": _TAKEN_BACK,
        "test_pipes_outlive_their_listener": _FOLDER,
        "test_abandoned_listener_leaves_nothing": _FOLDER,
    },
    "servers/test_serve.py": {
        "test_close_ends_idle_clients_at_once": _FOLDER,
        "test_exclusive_names_and_wrong_models": _FIRST,
        "test_nothing_is_left_after_many_servers_and_clients": _FOLDER,
    },
    "semantics/test_connect.py": {
        "test_disconnecting_a_listening_instance_ends_pending_connects_with_233": _LISTENING,
        "test_disconnect_on_a_client_handle_is_1": _LISTENING,
        "test_disconnect_of_a_listening_instance_takes_it_out_of_the_line": _LISTENING,
        "test_a_dead_process_leaves_its_completed_messages_and_takes_the_pending_one_along": _INNER,
        "test_a_process_that_dies_while_its_write_is_partly_read_takes_the_rest_along": _INNER,
        "test_a_disconnected_client_stays_so_whatever_the_server_does[listens again]": _IDS_AFTER,
        "test_a_disconnected_client_stays_so_whatever_the_server_does[closes]": _IDS_AFTER,
        "test_the_death_of_the_last_server_process_ends_waits_with_2": _INNER,
        "test_held_opens_are_served_in_the_order_in_which_they_came": _ORDER,
        "test_a_disconnect_or_a_clients_close_alone_wakes_no_waiter": _INNER,
        "test_every_operation_gives_what_the_table_says_in_every_state[S listening-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[S listening-disconnect*": _LISTENING,
        "test_every_operation_gives_what_the_table_says_in_every_state[S disconnected-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[S closing-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[C closing-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[S closing, data left-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[C closing, data left-get info*": _CHECKS,
        "test_every_operation_gives_what_the_table_says_in_every_state[C disconnected-disconnect*": _LISTENING,
        "test_every_operation_gives_what_the_table_says_in_every_state[C closing-disconnect*": _LISTENING,
        "test_every_operation_gives_what_the_table_says_in_every_state[C closing, data left-disconnect*": _LISTENING,
    },
    "semantics/test_instances.py": {
        "test_an_unknown_or_empty_direction_is_refused[7]": _CHECKS,
        "test_an_unknown_mode_bit_is_refused": _CHECKS,
        "test_an_unknown_type_is_refused[1]": _CHECKS,
        "test_an_unknown_type_is_refused[8]": _CHECKS,
        "test_an_unknown_type_is_refused[5]": _CHECKS,
        "test_an_instance_limit_out_of_range_is_refused": _CHECKS,
        "test_the_instance_limit_is_reported_as_given_on_both_ends[255]": _CHECKS,
        "test_buffer_sizes_are_reported_exactly_as_given_and_not_swapped[4294967295-0]": _CHECKS,
        "test_the_default_time_out_is_used_by_waits_and_zero_means_50_ms[0-0.05]": _DEFAULT,
        "test_a_server_of_an_inbound_pipe_may_not_write_nor_set_its_modes": _FLUSH,
        "test_a_later_instance_with_message_read_mode_on_a_byte_pipe_reads_bytes_or_is_refused": _CHECKS,
        "test_buffer_sizes_are_each_instances_own": _SIZES,
        "test_first_instance_on_an_existing_name_is_refused": _FIRST,
        "test_a_refused_create_takes_no_place": _FIRST,
        "test_another_process_sees_the_limit_the_direction_and_the_first_instance": _INNER,
        "test_the_death_of_a_server_process_ends_its_instances": _INNER,
        "test_a_wrong_direction_is_told_before_busy[1-5]": _BUSY_FIRST,
        "test_a_wrong_direction_is_told_before_busy[2-15]": _BUSY_FIRST,
    },
    "semantics/test_reading.py": {
        "test_empty_messages_are_read_as_the_mode_says[0-entries1-*": _TRAILING,
        "test_empty_messages_are_read_as_the_mode_says[0-entries4-*": _TRAILING,
        "test_empty_messages_are_read_as_the_mode_says[0-entries5-*": _TRAILING,
    },
    "semantics/test_state.py": {
        "test_setting_modes_needs_the_right_to_write_attributes": _STATE_RIGHTS,
        "test_switching_to_nowait_with_something_pending_is_231": _TO_NOWAIT,
        "test_current_instances_count_those_of_all_processes": _INNER,
        "test_a_flush_does_not_wait_for_what_was_written_after_it_began": _FLUSH,
        "test_a_flush_of_a_byte_pipe_ends_when_its_bytes_are_read": _FLUSH,
        "test_a_flush_without_the_right_to_write_is_5": _FLUSH,
        "test_both_ends_know_both_processes": _INNER,
        "test_a_server_without_a_client_knows_no_client_but_itself": _NO_CLIENT_YET,
    },
    "semantics/test_transact.py": {
        "test_transacting_while_a_read_of_the_same_handle_is_pending_is_231": _PENDING_READ,
        "test_transacting_while_another_transaction_waits_is_231": _PENDING_READ,
        "test_a_reply_over_the_limit_is_234_and_stays_readable": _LIMIT,
    },
    "semantics/test_writing.py": {
        "test_the_quota_holds_as_many_writes_of_one_byte": _SLOW,
        "test_empty_messages_do_not_count_against_the_quota_however_many": _SLOW,
        "test_what_stands_in_no_ring_yet_is_delivered_after_a_close": _SLOW,
        "test_what_a_pending_read_asks_for_is_room_for_a_write[0-0-2-3-False]": _SHARE,
        "test_what_a_pending_read_asks_for_is_room_for_a_write[0-10-5-16-False]": _SHARE,
        "test_what_a_pending_read_asks_for_is_room_for_a_write[4-0-2-3-False]": _SHARE,
        "test_what_a_pending_read_asks_for_is_room_for_a_write[4-10-5-16-False]": _SHARE,
        "test_several_pending_reads_are_room_together": _SHARE,
        "test_all_pending_writes_end_when_the_peer_closes": _LATER_WRITE,
        "test_all_pending_writes_end_with_233_on_a_disconnect[client]": _LATER_WRITE,
        "test_a_pending_write_sends_what_its_buffer_held_when_it_began_or_holds_it_fast": _COPIED,
        "test_a_nowait_message_write_that_is_too_long_leaves_the_readers_pending[0-5-6]": _NOWAIT_WRITE,
        "test_a_nowait_message_write_that_is_too_long_leaves_the_readers_pending[10-5-16]": _NOWAIT_WRITE,
        "test_a_nowait_message_write_that_is_too_long_leaves_the_readers_pending[3-1-100000]": _NOWAIT_WRITE,
    },
    "aio/test_listener.py": {
        "test_a_name_is_exclusive_unless_told_otherwise": _FIRST,
        "test_a_forked_child_has_no_part_in_a_listener": _FORK,
    },
    "aio/test_pool.py": {
        "test_a_message_that_goes_on_in_the_background_arrives_however_the_block_ends": _GOES_ON,
    },
    "aio/test_cancellation.py": {
        "test_a_recv_cancelled_in_the_moment_it_was_woken_loses_nothing": _INNER,
        "test_a_write_of_which_the_peer_has_read_a_part_goes_on_after_its_cancellation": _GOES_ON,
        "test_close_waits_for_a_cancelled_write_that_goes_on": _GOES_ON,
    },
    "aio/test_views.py": {
        "test_other_tasks_write_behind_it": _NO_ROOM,
        "test_who_waits_for_its_reservation_is_the_only_one": _NO_ROOM,
        "test_a_reservation_that_could_not_begin_is_tried_again": _NO_ROOM,
    },
    "aio/test_streams.py": {
        "test_an_aborted_transport_is_closed_at_once[asyncio]": _TAKEN_BACK,
        "test_what_has_room_is_written_at_once_and_the_rest_in_its_order": _A_TURN_LATER,
    },
    "aio/test_pipe.py": {
        "test_a_writer_is_woken_when_the_reader_that_lets_others_run_does_not_go_on": _INNER,
        "test_a_read_that_waits_counts_as_room_for_a_quota_of_zero": _WAITS_WITH_NOTHING,
    },
    "aio/test_serving.py": {
        "test_sync_clients_are_served": _NEWLINES,
    },
    "servers/test_models.py": {
        "test_the_name_never_goes_while_clients_take_turns_at_the_limit": _LISTING,
        "test_a_security_that_lets_clients_only_write": _DACL,
        "test_the_overlapped_server_keeps_its_number_of_instances": _LISTING,
        "test_the_limit_bounds_the_default_number_of_instances": _LISTING,
        "test_the_completion_server_has_an_instance_for_each_client": _LISTING,
    },
    "processes/test_races.py": {
        "test_two_processes_exchange_messages_both_ways_at_once": _WAITED_FOR,
    },
    "processes/test_many_processes.py": {
        "test_clients_reach_all_owners": _LISTING,
        "test_last_owner_leaving_ends_the_waiters": _FOLDER,
        "test_waiters_go_on_when_the_owner_that_holds_them_leaves_or_dies": _INNER,
        "test_others_go_on_when_one_owner_is_killed": _LISTING,
        "test_clients_under_load_while_owners_come_and_go": _LISTING,
        "test_exclusive_owners_race_for_the_name": _FIRST,
    },
    "test_options.py": {
        "test_owner_is_the_current_user_alone": _POSIX_USERS,
        "test_everyone_is_everyone": _POSIX_USERS,
        "test_group_is_found_by_name_or_number": _POSIX_USERS,
        "test_users_and_groups_are_sorted_and_counted_once": _POSIX_USERS,
        "test_read_and_write_are_the_clients[True-False-1]": _POSIX_USERS,
        "test_read_and_write_are_the_clients[False-True-2]": _POSIX_USERS,
        "test_security_object_is_returned_as_it_is": _POSIX_USERS,
        "test_unknown_security_text_is_an_argument_error[group:no such group]": _POSIX_USERS,
        "test_unknown_security_text_is_an_argument_error[group:a\\x00b]": _POSIX_USERS,
        "test_unknown_users_and_groups_fail_before_anything_is_created": _POSIX_USERS,
        "test_users_are_names_or_numbers": _POSIX_USERS,
    },
    "cli/test_client.py": {
        "test_a_pipe_of_a_machine_that_there_is_no_way_to_is_gle_50": _REDIRECTOR,
        "test_a_server_that_leaves_without_an_answer_is_gle_109": _NEWLINES,
        "test_a_server_that_disconnects_in_the_middle_is_gle_233": _NEWLINES,
        "test_it_waits_for_an_instance_and_is_served": _PROC,
        "test_a_pipe_that_goes_during_the_wait_ends_it": _PROC,
        "test_ctrl_c_ends_it_without_a_word": _PROC,
        "test_ctrl_c_ends_the_wait_for_an_instance": _PROC,
    },
    "cli/test_wait.py": {
        "test_a_machine_that_there_is_no_way_to_is_one_line": _REDIRECTOR,
        "test_with_create_it_waits_for_a_server_that_is_not_there_yet": _PROC,
    },
    "cli/test_main.py": {
        "test_the_library_needs_neither_of_them": _LISTING,
        "test_a_reader_that_has_gone_is_no_traceback": _LISTING,
        "test_a_full_disk_is_one_line": _LISTING,
        "test_a_root_folder_that_others_may_write_to_is_one_line": _FOLDER,
    },
    "win32/test_groundwork.py": {
        "test_a_missing_name_is_an_attribute_error_that_names_it[winerror]": _OWN_TEXT,
        "test_a_missing_name_is_an_attribute_error_that_names_it[win32con]": _OWN_TEXT,
        "test_a_missing_name_is_an_attribute_error_that_names_it[win32security]": _OWN_TEXT,
        "test_an_error_survives_pickling[0-error]": _OWN_TEXT,
        "test_an_error_survives_pickling[1-error]": _OWN_TEXT,
        "test_an_error_survives_pickling[2-error]": _OWN_TEXT,
        "test_an_error_survives_pickling[3-error]": _OWN_TEXT,
        "test_an_error_survives_pickling[4-error]": _OWN_TEXT,
        "test_an_error_survives_pickling[5-error]": _OWN_TEXT,
    },
    "win32/test_routines.py": {
        "test_an_exception_of_a_routine_comes_out_of_the_wait_and_the_others_stay_queued": _ONE_WAIT,
    },
    "cli/test_run.py": {
        "test_a_current_folder_that_is_gone_keeps_no_program_from_running[switches0]": _IN_USE,
        "test_a_current_folder_that_is_gone_keeps_no_program_from_running[switches1]": _IN_USE,
        "test_a_program_finds_what_it_finds_under_python[arguments2]": _NO_LINKS,
    },
}
"""By file and test; one with * is for all whose names begin so. A test that holds by now fails the run, but for those
that chance decides; a name that nothing has is an error."""

_CHANCE: Final = {_ORDER, _READERS}
_NOT_RUN: Final = {_A_TURN_LATER, _WAITED_FOR, _SLOW, _GOES_ON}


_TESTS: Final = CHECKOUT / "tests"


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that are known to fail."""
    for item in items:
        reason = _reason(DIFFERENCES.get(_file(item), {}), item.name)
        if reason is not None:
            known = pytest.mark.xfail(reason=reason, strict=reason not in _CHANCE, run=reason not in _NOT_RUN)
            item.add_marker(known, append=False)  # before one of the test's own, which is for Linux


def stale(items: Iterable[pytest.Item]) -> Iterator[str]:
    """What is named here and is not there; of a file's tests, if the file is among the items, as a whole."""
    yield from (path for path in (*LINUX, *DIFFERENCES) if not (_TESTS / path).exists())
    names: dict[str, list[str]] = {}
    for item in items:
        names.setdefault(_file(item), []).append(item.name)
    for path in DIFFERENCES.keys() & names.keys():
        for key in DIFFERENCES[path]:
            if not any(_is(key, name) for name in names[path]):
                yield f"{path}::{key}"


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).as_posix()


def _is(key: str, name: str) -> bool:
    return name == key or name.partition("[")[0] == key or (key.endswith("*") and name.startswith(key[:-1]))


def _reason(known: dict[str, str], name: str) -> str | None:
    return next((reason for key, reason in known.items() if _is(key, name)), None)
