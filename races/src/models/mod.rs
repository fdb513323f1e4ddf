//! The models. Each says which schedule would break what it asserts.
mod contacts;
mod pulse;
mod stack;
mod store;

pub const ALL: &[(&str, fn())] = &[
    (
        "a_number_that_is_shown_is_below_those_of_writes_under_way",
        contacts::a_number_that_is_shown_is_below_those_of_writes_under_way,
    ),
    ("a_standstill_that_another_thread_found_is_known", pulse::a_standstill_that_another_thread_found_is_known),
    (
        "a_process_that_stood_still_while_it_caught_up_stays_shut",
        pulse::a_process_that_stood_still_while_it_caught_up_stays_shut,
    ),
    ("what_is_pushed_is_taken_once", stack::what_is_pushed_is_taken_once),
    ("a_load_never_undoes_a_write", store::a_load_never_undoes_a_write),
    ("a_load_from_before_a_shut_is_not_kept", store::a_load_from_before_a_shut_is_not_kept),
    ("what_arrived_up_to_a_number_is_there", store::what_arrived_up_to_a_number_is_there),
    ("the_sums_are_those_of_what_is_there", store::the_sums_are_those_of_what_is_there),
    ("a_closed_store_stays_empty", store::a_closed_store_stays_empty),
    ("an_owner_by_a_new_table_knows_that_it_inherits", store::an_owner_by_a_new_table_knows_that_it_inherits),
    ("versions_only_grow", store::versions_only_grow),
];
