//! The recordings are the tests.

use keyward_sdk::replay;
use reka::RekaAdapter;

#[test]
fn recordings_replay() {
    replay::check_all::<RekaAdapter>("recordings");
}

#[test]
fn the_descriptor_fits_its_schema() {
    replay::check_descriptor::<RekaAdapter>();
}
