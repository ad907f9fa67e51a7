mod filter;
mod machine;
