//! The cases.

mod cgroups;
mod documented;
mod escapes;
mod isolation;
mod lifetime;
mod mounts;
mod network;
mod outside;
mod programs;
mod users;

use crate::support::World;

/// A case and its name.
pub(crate) type Case = (&'static str, fn(&World));

macro_rules! cases {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        /// All cases, in the order they run in.
        pub(crate) const ALL: &[Case] = &[
            $($((concat!(stringify!($module), "::", stringify!($name)), $module::$name),)+)+
        ];
    };
}

cases! {
    isolation: sees_only_its_own_processes, has_the_given_host_name, sees_the_expected_mounts, keeps_few_capabilities,
        is_filtered, inherits_no_descriptor, cannot_write_kernel_settings, sees_no_masked_files, has_usual_devices,
        makes_terminals, has_umask_022, has_an_empty_input, has_default_signals, sees_a_constant_environment,
        insecure_steps_keep_everything, no_new_privileges_on_request;
    programs: reports_codes_and_signals, names_a_missing_program, names_a_forbidden_program,
        names_a_missing_interpreter, names_a_foreign_format, searches_the_path, passes_any_text, gives_large_output,
        makes_a_missing_working_directory, enters_a_working_directory_only_root_may_see;
    users: runs_as_named_user, runs_as_number, refuses_an_unknown_user, hands_output_to_its_user,
        reads_no_pipe_as_passwd, sets_file_capabilities, changes_owners;
    escapes: working_directory_through_a_descriptor, working_directory_through_links, symlinked_kernel_directories,
        dangling_resolv_conf, replaced_hosts_file, interpreter_is_ourselves, mount_targets_through_links,
        sources_cannot_leave, created_mount_points_leave_no_trace,
        device_nodes_made_in_a_step_cannot_be_opened, exchanged_mount_targets_and_sources, links_left_in_a_cache,
        kernel_files_brought_by_the_image, nothing_is_mounted_over_proc, mounts_over_kernel_files, our_binary_cannot_be_written,
        abstract_sockets_of_the_host, processes_of_the_host;
    documented: every_row_is_true, every_escape_is_listed;
    mounts: upper_is_clean_of_mount_points, bind_read_only_and_not, bind_of_one_file, overlay_discards_writes,
        overlay_refuses_writes, tmpfs_with_size, secret_with_owner, script_in_memory, socket_is_shown,
        nested_in_any_order, target_of_wrong_kind, missing_source_is_named, many_layers, whiteouts_and_opaque;
    network: none_has_loopback_only, host_shares_the_network, private_reaches_out_and_not_our_loopback, private_networks_are_nobody_elses,
        extra_hosts_are_known;
    outside: programs_see_who_started_us;
    lifetime: background_processes_end, cancel_is_polite_first, cancel_ends_what_ignores_it, kill_is_immediate,
        parallel_steps, streams_can_be_passed, terminals_are_controlling_ones, steps_end_with_us;
    cgroups: limits_are_applied_or_refused, process_limits;
}
