mod detached;
mod filter;
mod machine;
