"""The commands of journaltool, one module per command."""
