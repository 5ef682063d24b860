"""The command line: `trainyard`. One module per group, loaded when the group is used."""
