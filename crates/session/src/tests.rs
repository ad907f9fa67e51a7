mod adopted;
mod detached;
mod filter;
mod machine;
