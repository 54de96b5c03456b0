//! Recorded exchanges, replayed natively, with and without held content, cut at every byte.

#[test]
fn recorded_exchanges_come_out_as_recorded() {
    keyward_sdk::replay::check_all::<crate::OpenAi>("recordings");
}

#[test]
fn the_descriptor_fits_its_schema() {
    keyward_sdk::replay::check_descriptor::<crate::OpenAi>();
}
