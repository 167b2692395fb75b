"""Names for containers that were given none: an adjective and somebody who made something of computers or science."""

from __future__ import annotations

from typing import Final

_ADJECTIVES: Final = (
    "able agile amber apt azure blithe bold brave breezy bright brisk busy calm candid canny cheery civil clear "
    "clever cordial cosy crisp curious daring deft direct eager earnest easy elated exact fair famous fine fleet "
    "fond frank free fresh gentle glad golden good grand great happy hardy hearty honest hopeful humble ideal "
    "jolly jovial keen kind lively loving loyal lucid lucky mellow merry mild modest neat nimble noble open "
    "patient placid plucky polite prime prompt proud quick quiet rapid ready robust sage serene sharp silent "
    "silver sincere smart snug sober solid sound spry stable steady stoic sunny sure swift tender tidy tranquil "
    "trusty upbeat upright vivid warm wise witty zealous zesty"
)
_LEFT: Final = tuple(_ADJECTIVES.split())
_PEOPLE: Final = (
    "agnesi allen babbage backus bardeen bartik bell bohr boole booth borg bose brahmagupta brattain brown "
    "carson cerf chandrasekhar church clarke cocks codd conway cray curie curry darwin diffie dijkstra easley "
    "edison einstein elion engelbart erdos euclid euler faraday fermat fermi feynman floyd franklin galileo "
    "galois gauss germain goldberg goodall hamilton hamming hawking hellman hertz hilbert hoare hodgkin "
    "hofstadter holberton hopper huffman hypatia jackson jang jennings johnson jones kalam kare karp kepler "
    "kernighan khorana kilby knuth kowalevski lamarr lamport leavitt lewin liskov lovelace mahavira maxwell "
    "mayer mcclintock mccarthy meitner mendel mestorf milner minsky mirzakhani naur neumann newell newton nobel "
    "noether noyce pascal pasteur perlman pike poincare ptolemy raman ramanujan ride ritchie rosalind roentgen "
    "rubin sammet satoshi shannon shockley simon snyder spence stonebraker sutherland swartz thompson torvalds "
    "turing varahamihira vaughan villani wescoff wilkes williams wing wozniak wright yalow yonath"
)
_RIGHT: Final = tuple(_PEOPLE.split())


def suggestion(attempt: int = 0) -> str:
    """A name of two words with an underscore between.

    attempt: how many were taken already; from the third on a number follows.
    """
    import random  # 3 ms, and a container may have been given a name

    name = f"{random.choice(_LEFT)}_{random.choice(_RIGHT)}"  # noqa: S311 - a name is no secret
    return name if attempt < 3 else f"{name}{random.randrange(10 ** (attempt - 1))}"  # noqa: S311
