"""What the tests share: other processes, raw files, the fixtures behind them."""
