//! What a cell is made of, as plain data, and the orders that ask the warden for one.
