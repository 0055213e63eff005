"""Networks: timm backbones, projection and prediction heads, the EMA target network, the encoder file."""
