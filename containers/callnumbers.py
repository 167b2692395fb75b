"""The numbers of the system calls that steps may make, by machine; see seccomp.py for their names.

``python -m tests.security.libseccomp`` prints the numbers anew when there are new names. libseccomp knows them too, but
takes 13 ms to make a filter, and a container would wait for that.
"""

from __future__ import annotations


class Calls:
    """The system calls of one architecture.

    audit: what the kernel calls it (linux/audit.h).
    first: is added to every number.
    wide: arguments have 64 bits.
    clone_flags: which argument of clone has the flags.
    allowed: ranges.
    """

    __slots__ = ("allowed", "audit", "clone", "clone3", "clone_flags", "first", "personality", "socket", "wide")

    def __init__(
        self,
        audit: int,
        *,
        first: int,
        wide: bool,
        clone_flags: int,
        clone: int,
        clone3: int,
        personality: int,
        socket: int,
        allowed: str,
    ) -> None:
        self.audit = audit
        self.first = first
        self.wide = wide
        self.clone_flags = clone_flags
        self.clone = clone
        self.clone3 = clone3
        self.personality = personality
        self.socket = socket
        self.allowed = allowed


CALLS = {
    "x86_64": (
        Calls(
            0xC000003E,
            first=0x0,
            wide=True,
            clone_flags=0,
            clone=56,
            clone3=435,
            personality=135,
            socket=41,
            allowed="""
                0-40 42-55 57-102 104-133 137-138 140-152 154 157-162 186-211 213-226 228-235 240-245 247 251-255
                257-271 273-278 280-297 299 301-303 305-307 309-311 314-319 322 324-334 424 434 436-437 439 441 444-449
                451-456
            """,
        ),
        Calls(
            0x40000003,
            first=0x0,
            wide=False,
            clone_flags=0,
            clone=120,
            clone3=435,
            personality=136,
            socket=359,
            allowed="""
                0-16 19-20 23-24 26-27 29-30 33 36-43 45-47 49-50 54-55 57 60-61 63-66 70-71 75-78 80-83 85 90-97
                99-100 102 104-108 114 116-119 122-126 132-133 138-148 150-165 168 170-187 190-216 218-221 224-250 252
                254-263 265-272 277-282 284 289-293 295-309 311-316 318-335 337 339-341 343-345 347-348 351-356 358
                360-373 375-386 393-403 405-414 416-424 434 436-437 439 441 444-449 451-456
            """,
        ),
        Calls(
            0xC000003E,
            first=0x40000000,
            wide=False,
            clone_flags=0,
            clone=56,
            clone3=435,
            personality=135,
            socket=41,
            allowed="""
                0-12 14 17-18 21-40 42-44 48-53 57-58 60-100 102 104-126 130 132-133 137-138 140-152 154 157-162
                186-204 207-208 210 213 216-221 223-226 228-235 240-243 245 251-255 257-271 275-277 280-294 301-303
                305-306 309 314-319 324-326 329-334 424 434 436-437 439 441 444-449 451-456 512-527 529-532 534-547
            """,
        ),
    ),
    "aarch64": (
        Calls(
            0xC00000B7,
            first=0x0,
            wide=True,
            clone_flags=0,
            clone=220,
            clone3=435,
            personality=92,
            socket=198,
            allowed="""
                0-17 19-38 43-57 59 61-88 90-91 93-96 98-103 107-111 113-115 117-141 143-160 163-169 171-197 199-216
                221-223 226-234 240 242-243 260-261 263-264 266-267 269-271 274-279 281 283-293 424 434 436-437 439 441
                444-449 451-456
            """,
        ),
        Calls(
            0x40000028,
            first=0x0,
            wide=False,
            clone_flags=0,
            clone=120,
            clone3=435,
            personality=136,
            socket=281,
            allowed="""
                0-6 8-12 14-16 19-20 23-24 26 29 33 36-43 45-47 49-50 54-55 57 60-61 63-66 70-71 75 77-78 80-81 83 85
                91-97 99-100 104-108 114 116 118-119 122 124-126 132-133 138-148 150-165 168 170-187 190-217 219-221
                224-248 250-253 256-261 263-270 274-280 282-308 312 314-318 322-336 338-343 345-346 348-363 365-366
                368-370 372-374 376-377 380-385 387 389-399 403 405-414 416-424 434 436-437 439 441 444-446 448-449
                451-456 983041-983042 983045
            """,
        ),
    ),
    "ppc64le": (
        Calls(
            0xC0000015,
            first=0x0,
            wide=True,
            clone_flags=0,
            clone=120,
            clone3=435,
            personality=136,
            socket=326,
            allowed="""
                0-16 19-20 23-24 26-27 29-30 33 36-43 45-47 49-50 54-55 57 60-61 63-66 70-71 75-78 80-83 85 90-97
                99-100 102 104-108 114 116-119 122 124-126 132-133 138-148 150-165 167 169-186 189-191 202 205-223
                227-234 236-244 246-253 262-267 272-277 280-281 283-300 302-309 311-318 320-322 324-325 327-345 347-349
                351-352 355-360 362 365 378-381 383-388 392-402 424 434 436-437 439 441 444-446 448-449 451-456
            """,
        ),
    ),
    "riscv64": (
        Calls(
            0xC00000F3,
            first=0x0,
            wide=True,
            clone_flags=0,
            clone=220,
            clone3=435,
            personality=92,
            socket=198,
            allowed="""
                0-17 19-37 43-57 59 61-88 90-91 93-96 98-103 107-111 113-115 117-141 143-160 163-169 171-197 199-216
                221-223 226-234 240 242-243 259-261 263-264 266-267 269-271 274-279 281 283-293 424 434 436-437 439 441
                444-449 451-456
            """,
        ),
    ),
    "s390x": (
        Calls(
            0x80000016,
            first=0x0,
            wide=True,
            clone_flags=1,
            clone=120,
            clone3=435,
            personality=136,
            socket=359,
            allowed="""
                1-12 14-15 19-20 26-27 29-30 33 36-43 45 54-55 57 60-61 63-66 75 77-78 83 85 90-94 96-97 99-100 102
                104-108 114 116-119 122 124-126 132-133 141-148 150-163 168 172-181 183-187 190-191 198-216 218-220 222
                224-241 243-258 260-262 265-267 271-276 281-286 288-302 304-309 311-316 318-330 333-335 337-338 340-342
                345-350 352-354 356-358 360-377 379 382-386 392-402 424 434 436-437 439 441 444-449 451-456
            """,
        ),
        Calls(
            0x00000016,
            first=0x0,
            wide=False,
            clone_flags=1,
            clone=120,
            clone3=435,
            personality=136,
            socket=359,
            allowed="""
                1-16 19-20 23-24 26-27 29-30 33 36-43 45-47 49-50 54-55 57 60-61 63-66 70-71 75-78 80-81 83 85 90-97
                99-100 102 104-108 114 116-119 122 124-126 132-133 138-148 150-165 168 170-187 190-216 218-241 243-258
                260-262 264-267 271-276 281-286 288-302 304-309 311-316 318-330 333-335 337-338 340-342 345-350 352-354
                356-358 360-377 379 382-386 393-403 405-414 416-424 434 436-437 439 441 444-449 451-456
            """,
        ),
    ),
}
"""By machine, as uname(2) calls it: first its own architecture, then those whose programs it also runs."""
