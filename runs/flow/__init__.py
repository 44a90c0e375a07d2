"""FlowView: the pages on which people draw graphs, check, publish and run them."""
