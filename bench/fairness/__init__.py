"""How long a light tenant waits beside a heavy one."""
