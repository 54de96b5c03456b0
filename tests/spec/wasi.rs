//! Rule 1, second half.
