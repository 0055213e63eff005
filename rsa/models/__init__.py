"""Networks: timm backbones, projection and prediction heads, the moving-average target, the encoder file."""
