"""python -m bothways.cli"""

from bothways.cli import main

main()
