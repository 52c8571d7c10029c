"""`python -m m3cli`, which torchrun can start: `torchrun --nproc-per-node 8 -m m3cli train finetune …`."""

from m3cli.app import main

main()
