import asyncio
import os
import subprocess


async def ran(name):
    # ruleid: command-through-a-shell
    subprocess.run(f"cat {name}", shell=True)
    # ruleid: command-through-a-shell
    subprocess.Popen(name, stdout=None, shell=True)
    # ruleid: command-through-a-shell
    os.system("ls")
    # ruleid: command-through-a-shell
    await asyncio.create_subprocess_shell("ls")
    # ok: command-through-a-shell
    subprocess.run(["cat", name], check=True)
    # ok: command-through-a-shell
    await asyncio.create_subprocess_exec("cat", name)
