"""What the experiments share: runs by arm and seed, side by side, resumable; intervals, tables and plots of them."""
