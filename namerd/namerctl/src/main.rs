//! `namerctl`: changes the dtabs of a namerd, and shows what a change does.

fn main() {}
