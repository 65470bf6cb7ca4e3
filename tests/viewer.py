"""A viewer of a machine's display: asyncvnc, which speaks VNC by itself.

viewer.py PORT PASSWORD [picture FILE | type TEXT | hold KEY,KEY]...
"""

import asyncio
import sys

import asyncvnc


async def main(port, password, deeds):
    async with asyncvnc.connect("127.0.0.1", int(port), password=password) as client:
        for deed, what in zip(deeds[::2], deeds[1::2]):
            if deed == "picture":
                pixels = await client.screenshot()
                with open(what, "wb") as file:
                    file.write(pixels[:, :, :3].tobytes())
            elif deed == "type":
                client.keyboard.write(what)
            else:
                client.keyboard.press(*what.split(","))
            await client.drain()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
